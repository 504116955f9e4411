"""A `Result` as standard DICOM objects on the images that it was made from: Segmentation and Structured Report."""
