# A stand-in for python:3.13-slim, which can't be fetched: Debian 13 (trixie), as that image has, with Debian's own
# Python 3.13 and pip. As there the standard library comes without compiled modules. What pip needs is in /mnt.
FROM scratch
ADD debian.tar /
RUN rm /usr/lib/python3.13/EXTERNALLY-MANAGED \
 && ln -s /usr/bin/python3 /usr/local/bin/python \
 && find / -xdev -name '*.pyc' -delete \
 && rm -r /var/cache/apt /var/lib/apt/lists \
 && printf '[global]\nno-index = true\nfind-links = /mnt\n' > /etc/pip.conf
