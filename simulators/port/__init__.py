"""The port in virtual time: processes on an event heap lay down motions, which signals then sample.

A process only ever commits motions that will happen: once time has been advanced to ``t``, everything that can be
sampled up to ``t`` is final. Times are float seconds since the port's own start.
"""
