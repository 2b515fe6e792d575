"""Run a function on hostile input in a process that can reach nothing, and check what it answers.

    pool.Sandbox (here)  --requests-->  launcher (imports what children need, never opens a file of a user)
        |                                   | fork, once for each file
        |                                   v
        +---------- plain data ------->  child: empty environment, hard limits, Landlock, seccomp, no network;
                                         reads one file, starts no process

A child serves one file: a file can harm only its own child, and the next file gets a new one. Answers are plain data,
checked against the type that the function is annotated with. Limits count CPU time; a wall clock far above them ends
a child that gets none.

The launcher imports `launcher`, `child` and what these need: keep asyncio and large libraries out of them. Every fork
copies the page tables of all that the launcher has imported.
"""
