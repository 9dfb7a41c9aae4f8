"""What is sent when, and to whom: the policies that make every host match the master."""
