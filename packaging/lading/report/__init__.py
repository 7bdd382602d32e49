"""Records for people: on a terminal and as Markdown. JSON is the record itself."""
