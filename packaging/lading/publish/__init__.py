"""A packed folder to a destination, so that a release is whole or not there. Does not know how it was made."""
