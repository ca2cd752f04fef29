"use strict";
{
  const way = document.getElementById("way");
  try {
    sessionStorage.removeItem("kerbgate-fragment");
    const part = location.hash;
    if (part.length > 1 && part.length <= 8000) {
      sessionStorage.setItem("kerbgate-fragment", way.dataset.trip + part);
      document.cookie = "__Host-kerbgate-fragment=1; Path=/; Max-Age=" + way.dataset.lasts + "; Secure; SameSite=Lax";
    }
  } catch {
    // A browser that keeps nothing for us still signs in.
  }
  location.replace(way.href);
}
