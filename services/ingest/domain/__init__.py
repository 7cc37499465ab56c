"""What a document is, how its text is cleaned and cut, and how its versions are counted."""
