"""The doctor: facts are collected once, then judged by pure functions, each finding with what to do about it."""

from promptmill.doctor.checks import Finding, Level, diagnose
from promptmill.doctor.collect import collect
from promptmill.doctor.facts import Facts

__all__ = ["Facts", "Finding", "Level", "collect", "diagnose"]
