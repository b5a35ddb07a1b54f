"""What can be asked: shape and sentences, no rule."""
