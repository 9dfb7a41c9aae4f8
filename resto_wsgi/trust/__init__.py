"""Who may write, and how it is proved: secrets, signatures and networks."""
