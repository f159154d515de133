"""What makes a process observable and well-behaved."""
