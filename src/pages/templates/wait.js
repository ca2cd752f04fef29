"use strict";
{
  const again = document.getElementById("again");
  const reload = () => location.reload();
  again.addEventListener("click", (event) => {
    event.preventDefault();
    reload();
  });
  // With "#" in the address the answer's Refresh only moves within the page.
  if (location.href.includes("#")) {
    setTimeout(reload, again.dataset.seconds * 1000);
  }
}
