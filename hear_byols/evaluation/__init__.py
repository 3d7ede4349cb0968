"""HEAR tasks: reading, checking, making and scoring them (paper, sections 2.4 and 3; extra ``eval``)."""
