"""Prompt files: read in one pass after another, checked as a whole, never held in memory."""

from producers.files.checking import Checked, check
from producers.files.demand import Demand
from producers.files.problems import Problem
from producers.files.prompt_file import FilePass, FormatName, PromptFile

__all__ = ["Checked", "Demand", "FilePass", "FormatName", "Problem", "PromptFile", "check"]
