// The search page: below each result, the words around what was found; `excerpts.py` says where they come from.
"use strict";

(() => {
  const results = document.getElementById("search-results");
  const query = new URLSearchParams(location.search).get("q") ?? "";
  const words = splitQuery(query.toLowerCase());
  // Sphinx finds words by their stems, so a page may hold another form; the word itself comes last and is preferred.
  const stems = words.map(word => new Stemmer().stemWord(word));
  const wanted = new Set([...stems, ...words]);

  function quote(item) {
    const link = item.querySelector("a");
    if (!link || item.querySelector(":scope > span")) return; // a name of the API, which says itself where it stands
    const [address, anchor] = link.getAttribute("href").split("#");
    const text = window.avffPageTexts?.[address.replace(/\.html$/, "")];
    if (!text) return;
    const page = `<div role="main">${text}</div>`;
    // A word may stand in the title alone, whose section then opens the page.
    const found = Search.makeSearchSummary(page, wanted, anchor && page.includes(`id="${anchor}"`) ? `#${anchor}` : "");
    if (!found) return;
    item.append(found);
    for (const word of words) _highlightText(item, word, "highlighted");
    if (!item.querySelector(".highlighted")) for (const stem of stems) _highlightText(item, stem, "highlighted");
  }

  // Sphinx adds the results one by one.
  new MutationObserver(changes => {
    for (const { addedNodes } of changes)
      for (const item of addedNodes) if (item.tagName === "LI") quote(item);
  }).observe(results, { childList: true, subtree: true });
  results.querySelectorAll("li").forEach(quote);
})();
