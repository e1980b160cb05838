"""What a person wants of a model: a wish, and the spec that it becomes."""
