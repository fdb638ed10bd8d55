// What scrolls sideways can be reached and scrolled by keyboard.
"use strict";

(() => {
  function reach() {
    for (const box of document.querySelectorAll(".bd-article :is(table, pre, .math, .output)")) {
      const scrolls = box.scrollWidth > box.clientWidth && /auto|scroll/.test(getComputedStyle(box).overflowX);
      if (scrolls) box.tabIndex = 0;
      else if (box.tabIndex === 0) box.removeAttribute("tabindex");
    }
  }
  addEventListener("load", async () => {
    await window.MathJax?.startup?.promise; // equations have no width before
    reach();
  });
  addEventListener("resize", reach);
})();
