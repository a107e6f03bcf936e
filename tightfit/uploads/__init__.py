"""Models that arrive over the network: announced, received in parts, whole or not there."""
