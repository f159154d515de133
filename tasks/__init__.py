"""The work: nouns that know and verbs that do."""
