"""The objects in storage: their keys, their content, and the proof that they are unchanged."""
