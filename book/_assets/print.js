// In print all is open and light: folded answers, solutions and code, whatever the screen shows.
"use strict";

(() => {
  const root = document.documentElement;
  let closed = [];
  let theme;

  addEventListener("beforeprint", () => {
    closed = closed.concat([...document.querySelectorAll("details:not([open])")]);
    for (const box of closed) box.open = true;
    theme ??= root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    for (const box of closed.splice(0)) box.open = false;
    root.dataset.theme = theme ?? root.dataset.theme;
    theme = undefined;
  });
})();
