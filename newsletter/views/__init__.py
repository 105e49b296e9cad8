"""What readers, visitors and machines see: the pages behind the links in mail, and the public ones.

hits         the open pixel and the redirect of every link
leaving      one click and out, and the way back from a slip
preferences  sections, pause, tracking, text only
subscribing  the form, and the link that confirms
account      strong actions, behind a one-time link: see, take, move and erase one's data
issues       an issue in the browser: for the reader of a link, and for everybody
public       the newsletters, and their published issues
health       for those who watch the server
errors       pages for what went wrong
pages        how a page is made; posting: what a post to a form must be; readers: whom a link belongs to
"""
