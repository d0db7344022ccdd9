"""Making the cues of a data set: pictures to text, text to refined text, refined text to embeddings in a cache."""
