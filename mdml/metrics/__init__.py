"""What is measured of a set of images with known classes: of its predictions, its neighbours, its clusters and its distances."""
