"use strict";
{
  const way = document.getElementById("way");
  let part = "";
  try {
    const kept = sessionStorage.getItem("kerbgate-fragment") || "";
    sessionStorage.removeItem("kerbgate-fragment");
    if (kept.startsWith(way.dataset.trip + "#")) {
      part = kept.slice(way.dataset.trip.length);
    }
  } catch {
    // Without it, at least to the page.
  }
  // Behind our own origin and a slash, nothing leads elsewhere.
  location.replace(location.origin + way.getAttribute("href") + part);
}
