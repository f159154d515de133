"""The signer's keys and its memory. Only a process that signs opens the private key."""
