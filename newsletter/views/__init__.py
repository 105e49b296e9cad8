"""What readers, visitors and machines see: the pages behind the links in mail, and the public ones.

hits         the open pixel and the redirect of every link
leaving      one click and out, and the way back from a slip
preferences  sections, pause, tracking, text only
issues       an issue in the browser: for the reader of a link, and for everybody
public       the newsletters, and their published issues
health       for those who watch the server
errors       pages for what went wrong
pages        how a page is made; readers: whom a link belongs to
"""
