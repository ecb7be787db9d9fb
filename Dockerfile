# The program, with what the report and the viewer need. Stores and data are mounted at /work:
#   docker build -t safemt .
#   docker run --rm -it -v "$PWD:/work" -e OPENAI_API_KEY safemt --provider gpt-4o --data SafeMT/
FROM python:3.12-slim

WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[fast,hf,report,view]' && rm -rf /src

# Not as root: what is written to /work should belong to the user (docker run --user "$(id -u):$(id -g)").
RUN useradd --create-home safemt
USER safemt
WORKDIR /work
ENTRYPOINT ["safemt"]
CMD ["--help"]
