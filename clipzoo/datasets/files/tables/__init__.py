"""Tables of images and labels as people keep them: CSV and TSV in several encodings, and Excel workbooks."""
