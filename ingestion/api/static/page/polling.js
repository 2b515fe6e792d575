/** What is asked again and again, while the tab can be seen. */

/** Resolves as soon as the tab can be seen. */
export async function shown() {
  while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

/** Run `action` now, and again `ms` after it has ended, while the tab can be seen. Returns a function that ends it. */
export function every(ms, action) {
  let timer = 0;
  let isOver = false;
  const run = async () => {
    await action();
    if (!isOver) timer = setTimeout(async () => { await shown(); if (!isOver) run(); }, ms);
  };
  run();
  return () => { isOver = true; clearTimeout(timer); };
}
