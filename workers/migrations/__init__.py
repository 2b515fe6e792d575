"""What `pagemill migrate` does to the servers before a release starts. Forward only, and safe to repeat.

Each step compares what is there with what this release needs, and creates what is missing. Records, objects and cache
entries of earlier releases need no step: this release reads them as they are, and the janitor makes what they lack.
"""
