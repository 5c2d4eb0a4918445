"""`renoise demo`: a page in the browser that inverts a picture once and edits it again and again."""
