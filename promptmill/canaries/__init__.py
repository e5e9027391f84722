"""Canaries: prompts with known good answers, sent on a schedule, so that a model which gets worse is noticed.

Read in this order: sets (what a canary is, and which there are), schedule (when a round begins), rounds (a round as
jobs in the queue), standing (what the answers come to). A canary is a job like any other: it waits for budget, is paid,
measured and stored as every job is, and no worker has to know what it runs.
"""
