"""The policies that make every host match the master: what is sent, when, and to whom."""
