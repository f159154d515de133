"""Watch the fleet: this room reads Redis and changes nothing."""
