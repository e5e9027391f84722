"""The doctor: facts are collected once, then judged by pure functions, each finding with what to do about it."""

from promptmill.doctor.checks import Finding, Level, check_redis, diagnose
from promptmill.doctor.collect import collect, collect_redis
from promptmill.doctor.facts import Facts

__all__ = ["Facts", "Finding", "Level", "check_redis", "collect", "collect_redis", "diagnose"]
