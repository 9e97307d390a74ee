"""Scores of answers: metrics, intervals, and a judge behind an endpoint. Knows no model of ours."""
