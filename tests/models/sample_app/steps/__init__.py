"""The sample's migrations."""
