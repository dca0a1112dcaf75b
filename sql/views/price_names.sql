-- Grain: one row per provider and model of the price book.
-- Which models the book knows, and from which length of the prompt on another price holds (0: none).
SELECT provider, model, MAX(context_above) AS context_above
FROM tally.prices
GROUP BY provider, model
