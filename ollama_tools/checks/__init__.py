"""Questions put to a live server, with their answers and the evidence."""
