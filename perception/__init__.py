"""A sensor or text stream in, features out; and heads: features in, objects out."""
