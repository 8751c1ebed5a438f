"""Faster R-CNN: boxes, anchors, suppression, pooling of regions, and the nets."""
