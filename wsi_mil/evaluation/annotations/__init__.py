"""Lesions from the annotation files of other tools, in level-0 pixels.

`formats` has one parser per format, `vocabulary` says which classes are lesions, `reading` puts the two
together, `folder` finds the file of a slide.
"""

from wsi_mil.evaluation.annotations.folder import AnnotationFolder, lesions_or_unknown
from wsi_mil.evaluation.annotations.reading import (
    AnnotationRules,
    SlideAnnotation,
    known_lesions,
    read_annotation_file,
    read_annotations,
)

__all__ = [
    "AnnotationFolder",
    "AnnotationRules",
    "SlideAnnotation",
    "known_lesions",
    "lesions_or_unknown",
    "read_annotation_file",
    "read_annotations",
]
