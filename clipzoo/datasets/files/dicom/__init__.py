"""DICOM files: recognised by their bytes, shown as a viewer shows them, and their patients under pseudonyms."""
