"""What is wrong with the data: files, copies, classes, borders and texts, checked before anything is trained."""
