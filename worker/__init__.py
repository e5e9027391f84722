"""Drains the queue: claims jobs that may be sent, calls Claude, classifies, decides, records, settles.

Read in this order: pipeline (the way of one job), outcomes and decisions (what an answer comes to, and what follows),
engine (how jobs are picked, on top of arq), leases, recorder, main.
"""
