"""How good a map is, judged by a sample of it that a person looks at."""
