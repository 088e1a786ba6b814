"""The exact texts sent to models.

`paper` says in our words what SynPO's appendix C says of its two prompts: the generator is asked for one question and its
solution from keywords, in tags; the improver is asked to rewrite an answer. `pocket` is the same in the pocket model's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Templates:
    """`generator` takes {keywords}, `target` {prompt} and {solution}, `improver` {prompt} and {draft}."""

    generator: str
    target: str
    prompt_start: str  # what stands before the prompt in G's output
    prompt_end: str  # what stands after it; generation stops there
    improver: str

    def ask_for_prompt(self, keywords: Sequence[str]) -> str:
        return self.generator.format(keywords=", ".join(keywords))

    def generator_target(self, prompt: str, solution: str | None) -> str:
        """What G learns to write; without a solution it ends after the prompt."""
        if solution is None:
            return (
                self.target.partition("{solution}")[0].partition(self.prompt_end)[0].format(prompt=prompt)
                + self.prompt_end
            )
        return self.target.format(prompt=prompt, solution=solution)

    def read_prompt(self, output: str) -> str | None:
        """The prompt in G's output, None when the output has not the form asked for."""
        before, found, rest = output.partition(self.prompt_start)
        prompt = rest.partition(self.prompt_end)[0].strip()
        return prompt if found and not before.strip() and prompt else None

    def ask_to_improve(self, prompt: str, draft: str) -> str:
        return self.improver.format(prompt=prompt, draft=draft)


TEMPLATES = {
    "paper": Templates(
        generator=(
            "Design one question and its solution from the given keywords. The question must be clear and answerable; the "
            "solution must be correct, with detailed reasoning and dense knowledge.\n"
            "Write the question between <question> and </question>, then the solution between <solution> and </solution>.\n\n"
            "Keywords: {keywords}"
        ),
        target="<question>\n{prompt}\n</question>\n<solution>\n{solution}\n</solution>",
        prompt_start="<question>",
        prompt_end="</question>",
        improver=(
            "Below are a question and an answer to it. Rewrite the answer so that it is better: mend its errors, keep to the "
            "question, make it more informative and complete. Write only the rewritten answer.\n\n"
            "Question:\n{prompt}\n\nAnswer:\n{draft}\n\nRewritten answer:"
        ),
    ),
    "pocket": Templates(
        generator="write a question with: {keywords}.",
        target="question: {prompt} solution: {solution}",
        prompt_start="question:",
        prompt_end="solution:",
        improver="question: {prompt} answer: {draft} better answer:",
    ),
}
