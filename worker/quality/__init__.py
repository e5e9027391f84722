"""The quality metrics of every answer: deterministic, and cheap enough to take of each one.

Read in this order: metric (what one is), measure (the table of metrics), reading (an answer taken apart once), then a
module for each family: specifics, syntax, instructions, similarity, tools, ending, hedging, repetition, scripts,
damage; and plug_ins (metrics of the owner's own), embeddings (one made from a model of theirs). What each metric can
and cannot see stands in the docstring that its row in `METRICS` names. Answers, requests, expectations: everything
measured is untrusted (I8), so every step has a bound.
"""

from worker.quality.answer import Answer
from worker.quality.embeddings import similarity_in_meaning
from worker.quality.measure import METRICS, measure
from worker.quality.metric import Metric, Subject
from worker.quality.plug_ins import PlugIns

__all__ = ["METRICS", "Answer", "Metric", "PlugIns", "Subject", "measure", "similarity_in_meaning"]
