"""What the fleet is doing: it reads and changes nothing."""
