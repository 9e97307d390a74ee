"""Facts of the made-up language of ``mplus.corpus.pair_facts``, asked at distances from the end of a text."""
