"""What a finished run shows a person: one page of HTML and every number of it as JSON."""
