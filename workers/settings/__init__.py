"""The environment becomes one frozen `Settings`; secrets and their vault."""
