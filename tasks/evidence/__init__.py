"""What lies in storage: its layout, how it is read back, and what it proves."""
